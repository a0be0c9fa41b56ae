quern inspect data/fixture/austen.txt
