quern convert data/fixture/meta-2 | quern inspect | head -n 3
