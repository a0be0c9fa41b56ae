quern quantize data/fixture/meta-2 -t q4_0 -f qpack -n
