quern convert data/fixture/meta-2 --json
