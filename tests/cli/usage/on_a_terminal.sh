# A terminal gets one line of progress that is erased at the end, and never a model; -q, NO_COLOR and TERM are heard.
on_terminal() { TERM=xterm script -qec "$*" /dev/null </dev/null | tr -d '\r' | tr '\033' '~'; }
quern convert -q $DATA/fixture/meta-2 -o m.gguf
slow="quern perplexity m.gguf --text $DATA/fixture/austen.txt --chunks 48"
on_terminal "$slow" >shown
grep -o '~\[Kperplexity *[0-9]* %  [0-9]* of 48 windows  [0-9.]* windows/s  [0-9]* s left~\[K' shown |
  sed 's/[0-9][0-9.]*/N/g' | sort -u
grep -o '~\[Kperplexity  [0-9]*\.' shown
on_terminal "$slow -q" | grep -c '~' || true
on_terminal "TERM=dumb $slow" | grep -c '~' || true
on_terminal "quern convert $DATA/fixture/meta-2"
on_terminal "quern convert $DATA/missing" | head -n 1
on_terminal "NO_COLOR=1 quern convert $DATA/missing" | head -n 1
on_terminal "TERM=dumb quern convert $DATA/missing" | head -n 1
