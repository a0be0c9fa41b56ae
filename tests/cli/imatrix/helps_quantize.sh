# The whole loop: columns that matter on one text keep the quantized model closer to itself on another, be it the other
# half of a book or another book.
$QUERN convert -q $DATA/fixture/meta-2 -o m.gguf
head -c 50000 $DATA/fixture/austen.txt >first_half.txt
tail -c 30000 $DATA/fixture/austen.txt >second_half.txt
$QUERN imatrix -q m.gguf --text first_half.txt -o half.gguf
$QUERN imatrix -q m.gguf --text $DATA/fixture/kjv.txt --chunks 40 -o book.gguf
for type in q4_0 q4_k; do
  $QUERN quantize -q m.gguf -t $type -o plain_$type.gguf
  $QUERN quantize -q m.gguf -t $type --imatrix half.gguf -o half_$type.gguf
done
$QUERN quantize -q m.gguf -t q4_k --imatrix book.gguf -o book_q4_k.gguf
kld() {
  $QUERN perplexity -q $1.gguf --text second_half.txt --reference m.gguf --json |
    sed -n '/"mean_kld_nats": {/,/}/s/^ *"value": *\([-+.0-9e]*\).*/\1/p' | head -n 1
}
less() {
  awk -v guided="$(kld $1)" -v plain="$(kld $2)" -v what="$1 less than $2" 'BEGIN {
    print what ": " (guided > 0 && guided < plain ? "yes" : "no (" guided " and " plain ")")
  }'
}
less half_q4_0 plain_q4_0
less half_q4_k plain_q4_k
less book_q4_k plain_q4_k
