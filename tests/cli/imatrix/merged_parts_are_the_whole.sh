# Two texts at once, and each alone and merged: the same file but for the texts' names and rounding.
$QUERN convert -q $DATA/fixture/meta-2 -o m.gguf
head -c 8000 $DATA/fixture/kjv.txt >a.txt
head -c 9000 $DATA/fixture/austen.txt >b.txt
$QUERN imatrix -q m.gguf -f a.txt -f b.txt -o both.gguf
$QUERN imatrix -q m.gguf -f a.txt -o a.gguf
$QUERN imatrix -q m.gguf -f b.txt -o b.gguf
$QUERN imatrix --merge a.gguf b.gguf -o merged.gguf
$QUERN imatrix --show both.gguf | cut -c 1-52 >both
$QUERN imatrix --show merged.gguf | cut -c 1-52 >merged
diff both merged
$QUERN inspect merged.gguf | head -n 1
