# --name and --context say the same of a stream as of the file in it.
quern -q convert data/fixture/meta-2 -o plain.gguf
quern -q quantize plain.gguf -t q8_0 --name tiny --context 77 -o file.gguf
quern -q quantize -t q8_0 --name tiny --context 77 <plain.gguf | cmp - file.gguf
quern inspect file.gguf | grep -e '^name' -e '^context'
quern convert --name $'\xff' -o no.gguf <plain.gguf || echo "exit code $?"
ls
