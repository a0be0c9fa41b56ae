# README, "Pipelines": the model is quantized on another machine. No server is needed for this test: an `ssh` that runs
# the command here stands in for it, as the real one does through a shell of its own and pipes.
mkdir fake
printf '#!/bin/sh\nshift\nexec sh -c "$*"\n' > fake/ssh
chmod +x fake/ssh
PATH=$PWD/fake:$PATH
quern convert data/fixture/meta-2 | ssh edge 'quern -q quantize -t q4_0 -o q4_0.gguf'
quern -q quantize data/fixture/meta-2 -t q4_0 -o direct.gguf
cmp q4_0.gguf direct.gguf
