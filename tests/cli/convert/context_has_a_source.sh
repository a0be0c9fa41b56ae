quern inspect data/fixture/meta-2 | grep '^context'
quern -q convert data/fixture/meta-2 --context 256 --name 'a name' -o out.gguf
quern inspect out.gguf | grep -E '^(name|context)'
