# Whatever writes into the pipe dies: exit code 3 and the tensor's name, without pipefail, and no output appears.
quern -q convert data/fixture/meta-2 -o model.gguf
size=$(stat -c %s model.gguf)
for n_bytes in 0 3 1000 300000 $((size / 2)) $((size - 100000)); do
  # The upstream dies by a signal in the middle of the stream.
  code=0
  sh -c "head -c $n_bytes model.gguf; kill -9 \$\$" 2> killed | quern quantize -t q4_0 -o out.gguf 2> message || code=$?
  echo "$code $(sed -e 's/.*error: //' -e 's/(byte offset.*\[/[/; s/, found.*\[/ [/' -e q message)"
  [ ! -e out.gguf ]
done
# The upstream is quern itself, whose input is damaged.
mkdir ckpt
cp -r data/fixture/meta-2/. ckpt
printf '\377' | dd of=ckpt/consolidated.01.pth bs=1 seek=2000000 conv=notrunc status=none
code=0
quern convert ckpt 2> upstream | quern quantize -t q4_0 -o out.gguf 2> message || code=$?
echo "$code $(sed -e 's/.*error: //' -e "s/, tensor '[^']*'.*\[/, tensor NAME [/" -e q message)"
grep -c 'zip.crc' upstream
ls *.gguf
