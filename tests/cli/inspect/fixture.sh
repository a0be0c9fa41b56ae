quern inspect data/fixture/meta-2
