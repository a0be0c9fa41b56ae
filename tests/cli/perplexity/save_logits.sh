# What a model predicts, kept in llama.cpp's file, stands for the model: the same windows, the same divergence but for the
# file's 16 bits. The file is not replaced without --force, nor by a report of the run that reads it or writes it.
quern -q quantize data/fixture/meta-2 -t q4_0 -o m.gguf
text="--text data/fixture/austen.txt --chunks 3"
quern perplexity data/fixture/meta-2 $text --save-logits base.logits > /dev/null
head -c 8 base.logits; echo
quern perplexity m.gguf $text --reference data/fixture/meta-2 --json=model.json > /dev/null
quern perplexity m.gguf $text --reference-logits base.logits --json=file.json > /dev/null
for report in model file; do sed -n '/"mean_kld_nats": {/{n;p}' $report.json | head -n 1 | cut -c1-24; done
set +e
quern -q perplexity data/fixture/meta-2 $text --save-logits base.logits
echo $?
quern -q perplexity m.gguf $text --reference-logits base.logits --json=base.logits > /dev/null
echo $?
quern -q perplexity m.gguf $text --save-logits new.logits --json=new.logits
echo $?
quern -q perplexity m.gguf $text --save-logits m.gguf --force
echo $?
quern -q perplexity m.gguf --text data/fixture/kjv.txt --chunks 3 --reference-logits base.logits
echo $?
exit 0
