quern convert data/fixture/meta-2 -t f16 -n
ls -A
