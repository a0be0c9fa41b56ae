# SIGINT in the middle: a sound file of fewer windows, exit code 130.
$QUERN convert -q $DATA/fixture/meta-2 -o m.gguf
for i in 1 2 3 4 5 6 7 8; do cat $DATA/fixture/kjv.txt $DATA/fixture/austen.txt; done >long.txt
: >log
set -m
$QUERN imatrix m.gguf --text long.txt -o m.imatrix.gguf --progress always 2>log &
pid=$!
# Until a group of windows is done.
while ! grep -aq '[1-9][0-9]*/[0-9]' log && ! grep -aq '[1-9] *%' log && kill -0 $pid 2>/dev/null; do sleep 0.1; done
kill -INT $pid
code=0
wait $pid || code=$?
echo "exit code $code"
tr '\r' '\n' <log | grep -ao 'interrupted after .* windows, GGUF'
$QUERN inspect m.imatrix.gguf | head -n 1
