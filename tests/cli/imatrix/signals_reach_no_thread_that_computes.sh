# All threads but the one that waits for them block SIGHUP, SIGINT and SIGTERM (bits 0, 1 and 14).
$QUERN convert -q $DATA/fixture/meta-2 -o m.gguf
: >log
set -m
$QUERN imatrix m.gguf --text $DATA/fixture/kjv.txt -o m.imatrix.gguf --threads 4 --progress always 2>log &
pid=$!
while ! grep -aq '[1-9] of' log && kill -0 $pid 2>/dev/null; do sleep 0.1; done
masks=$(sed -n 's/^SigBlk:\s*//p' /proc/$pid/task/*/status)
for mask in $masks; do printf '%x\n' $((0x$mask & 0x4003)); done >bits
echo "$(grep -c '^0$' bits) waits"
[ "$(grep -c '^4003$' bits)" -ge 4 ] && echo "four or more compute"
echo "$(grep -cv -e '^0$' -e '^4003$' bits) others"
kill -INT $pid
wait $pid || echo "exit code $?"
