quern quantise data/fixture/meta-2
