cp -r data/fixture/meta-2 m
printf '<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head></html>\n' > m/tokenizer.model
quern check m
