# Slow and odd writers and readers on both sides change nothing.
quern -q quantize data/fixture/meta-2 -t q4_0 -o direct.gguf
quern -q convert data/fixture/meta-2 -o model.gguf
in_chunks() { dd bs="$1" status=none; }
for n_bytes in 509 4097 65537 1048583; do
  in_chunks $n_bytes < model.gguf | quern quantize -t q4_0 | in_chunks $n_bytes | cmp - direct.gguf
done
# A writer that pauses in the magic, in the header and in the data; a reader that comes late.
exec 8< model.gguf
# dd reads the open file on from where it was; head might read ahead.
pausing() { for n_bytes in 2 1000 200000 3000001; do dd bs=$n_bytes count=1 status=none; sleep 0.1; done; cat; }
pausing <&8 | quern quantize -t q4_0 | { sleep 0.3; in_chunks 70001; } | cmp - direct.gguf
