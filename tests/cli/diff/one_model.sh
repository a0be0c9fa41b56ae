quern diff data/fixture/meta-2
