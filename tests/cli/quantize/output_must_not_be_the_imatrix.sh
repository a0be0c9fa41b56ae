le() { printf "\\x$(printf %02x "$1")\\0\\0\\0"; }
{ le 1; le 18; printf blk.9.ffn_up.weight | head -c 18; le 1; le 1; printf '\0\0\200\077'; } > m.dat
quern quantize data/fixture/meta-2 -t q4_0 -q --imatrix m.dat --force -o m.dat
