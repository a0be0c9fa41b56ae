quern check data/fixture/austen.txt
