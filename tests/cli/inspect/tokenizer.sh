quern inspect data/fixture/meta-2/tokenizer.model
