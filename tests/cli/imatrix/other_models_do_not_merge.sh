$QUERN imatrix -q $DATA/fixture/meta-2 --text $DATA/fixture/kjv.txt --chunks 2 -o a.gguf
$QUERN imatrix -q $DATA/stories260K/stories260K-f32.gguf --text $DATA/fixture/kjv.txt --chunks 2 -o b.gguf
$QUERN imatrix --merge a.gguf b.gguf -o c.gguf || code=$?
[ ! -e c.gguf ]
exit $code
