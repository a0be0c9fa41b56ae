# Two entries; one call of the first, four of the second, whose values are zeros.
le() { printf "\\x$(printf %02x "$1")\\0\\0\\0"; }
{
  le 2
  le 19; printf blk.0.ffn_up.weight; le 1; le 2; printf '\0\0\200\077\0\0\0\100'
  le 19; printf blk.0.attn_q.weight; le 4; le 1; printf '\0\0\0\0'
  le 7; le 8; printf text.txt
} > m.dat
quern inspect m.dat
quern inspect m.dat --json
