# A shell ends its loop only where a program in it was ended by SIGINT, not where it returned 130.
quern convert -q data/fixture/meta-2 -o m.gguf
for signal in INT TERM HUP; do
  perl -e '$p = fork; if (!$p) { exec "quern", "perplexity", "m.gguf", "--text", "data/fixture/kjv.txt" }
    select undef, undef, undef, 0.5; kill $ARGV[0], $p; waitpid $p, 0; print $ARGV[0], " ", $? & 127, "\n"' $signal
done
