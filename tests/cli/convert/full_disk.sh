quern convert data/fixture/meta-2 -o /dev/full
