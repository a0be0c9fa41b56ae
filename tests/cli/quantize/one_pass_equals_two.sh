for type in q8_0 q4_0 f16; do
  quern convert data/fixture/meta-2 | quern quantize -t $type > piped.gguf
  quern -q quantize data/fixture/meta-2 -t $type -o direct.gguf
  quern -q convert data/fixture/meta-2 -o source.gguf
  quern -q quantize source.gguf -t $type -o from_file.gguf
  cmp piped.gguf direct.gguf
  cmp piped.gguf from_file.gguf
  rm *.gguf
done
