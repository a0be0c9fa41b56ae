cp -r data/fixture/meta-2 ckpt
chmod -R u+w ckpt
quern -q convert ckpt --verify -o sound.gguf
echo " " >> ckpt/tokenizer.model
quern convert ckpt --verify -o out.gguf && exit 9
ls *.gguf
quern convert sound.gguf --verify -o out.gguf
