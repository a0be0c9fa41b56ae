# README, "Pipelines": one reading of the checkpoint, two types.
quern convert data/fixture/meta-2 | tee >(quern -q quantize -t q8_0 -o q8_0.gguf) | quern -q quantize -t q4_0 -o q4_0.gguf
# bash does not wait for what stands in >(...). The file appears whole.
until [ -e q8_0.gguf ]; do sleep 0.05; done
for type in q8_0 q4_0; do
  quern -q quantize data/fixture/meta-2 -t $type -o direct.gguf
  cmp $type.gguf direct.gguf
  rm direct.gguf
done
