quern inspect data/fixture/meta-2/params.json
