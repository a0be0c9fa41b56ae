quern pack data/fixture/meta-2/tokenizer.model -o x.qpack || true
quern unpack data/fixture/meta-2/tokenizer.model -o x.gguf || true
quern pack data/fixture/austen.txt --level 9 || true
quern quantize data/fixture/meta-2 -t q8_0 -f zip || true
quern quantize data/fixture/meta-2 -t q8_0 --level 2 || true
quern -q pack < data/fixture/austen.txt
