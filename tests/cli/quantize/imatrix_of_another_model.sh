le() { printf "\\x$(printf %02x $(($1 & 255)))\\x$(printf %02x $(($1 >> 8)))\\0\\0"; }
{ le 1; le 19; printf blk.0.attn_q.weight; le 1; le 2; printf '\0\0\200\077\0\0\200\077'; } > other.dat
quern quantize data/fixture/meta-2 -t q4_0 --imatrix other.dat -o q4_0.gguf || code=$?
[ ! -e q4_0.gguf ]
exit $code
