# A report replaces an earlier one, and neither a file of this run nor another file.
set +e
quern convert -q data/fixture/meta-2 -o m.gguf
cp data/fixture/austen.txt text
mkdir ck && cp data/fixture/meta-2/* ck
sums() { sha256sum m.gguf text ck/* | sha256sum; }
before=$(sums)
quern inspect m.gguf --json=m.gguf
quern convert -q m.gguf -o out.gguf --json=m.gguf
quern convert -q ck -o out.gguf --json=ck/params.json
quern convert -q m.gguf -o out.gguf --json=out.gguf
quern perplexity m.gguf --text text --chunks 1 --html m.gguf
quern perplexity m.gguf --text text --chunks 1 --junit text
quern perplexity m.gguf --text text --chunks 1 --markdown a --html ./a
quern perplexity m.gguf --text text --chunks 1 --json=no/where
ln -s text link
quern types --json=link
[ "$before" = "$(sums)" ] && ls
: >empty
quern types --json=empty && quern check -q m.gguf --json=empty && grep -o 'quern.check/1' empty
