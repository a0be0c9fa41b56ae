# What each command says of a QPACK is what it says of the GGUF inside.
quern -q convert data/fixture/meta-2 -f qpack -o m
cp m m.qpack
quern -q unpack m.qpack -o m.gguf
mv m.qpack m
for command in inspect "perplexity --text data/fixture/kjv.txt --context 128 --chunks 2 -q" diff; do
  case $command in
    diff) packed="diff m m" plain="diff m.gguf m.gguf" ;;
    *) packed="$command m" plain="$command m.gguf" ;;
  esac
  quern $packed 2>&1 | sed '/^packed (QPACK)/d; s/, [0-9.]* s$//' > packed
  quern $plain 2>&1 | sed 's/, [0-9.]* s$//; s/m\.gguf/m/g' > plain
  cmp packed plain
  wc -l < packed
done
quern inspect m | head -n 1
quern inspect < m | cmp - <(quern inspect m.gguf)
quern check m
quern -q quantize m -t q8_0 | cmp - <(quern -q quantize m.gguf -t q8_0)
quern -q quantize -t q8_0 < m | cmp - <(quern -q quantize m.gguf -t q8_0)
quern -q convert m | cmp - m.gguf
quern -q imatrix m.gguf --text data/fixture/kjv.txt --context 128 --chunks 1 -o im.gguf
quern -q pack im.gguf -o im
quern imatrix --show im | cmp - <(quern imatrix --show im.gguf)
quern -q imatrix --merge im im -o twice.gguf
quern -q quantize m -t q4_0 --imatrix im -o with.gguf
