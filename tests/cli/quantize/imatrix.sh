# One entry of ones, one of zeros, one of a layer that the model has not.
le() { printf "\\x$(printf %02x $(($1 & 255)))\\x$(printf %02x $(($1 >> 8)))\\0\\0"; }
entry() {
  le ${#1}; printf %s "$1"; le 4; le 256
  for ((i = 0; i < 256; ++i)); do printf "$2"; done
}
mkdir calibration
{
  le 3
  entry blk.0.attn_q.weight '\0\0\200\077'
  entry blk.0.attn_k.weight '\0\0\0\0'
  entry blk.99.attn_q.weight '\0\0\200\077'
  le 7; le 14; printf texts/wiki.raw
} > calibration/m.imatrix
quern quantize data/fixture/meta-2 -t q4_0 --imatrix calibration/m.imatrix -o q4_0.gguf
quern inspect q4_0.gguf --json | grep -A1 quantize.imatrix
quern check q4_0.gguf
quern quantize data/fixture/meta-2 -t q4_0 --imatrix calibration/m.imatrix -n --json | grep -A4 warnings
