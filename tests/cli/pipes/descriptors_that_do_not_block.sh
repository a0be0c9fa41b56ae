# Some programs leave O_NONBLOCK set on the pipes that they give to others.
quern convert -q data/fixture/meta-2 -o m.gguf
perl -MFcntl -e '
  pipe(IN, FEED); pipe(DRAIN, OUT);
  if (!fork) { close DRAIN; close OUT; close IN; open M, "<m.gguf"; local $/ = \50000;
    while (<M>) { syswrite FEED, $_; select undef, undef, undef, 0.005 } exit }
  if (!fork) { close FEED; close DRAIN; fcntl(IN, F_SETFL, O_NONBLOCK); fcntl(OUT, F_SETFL, O_WRONLY | O_NONBLOCK);
    open STDIN, "<&IN"; open STDOUT, ">&OUT"; exec "quern", "convert", "-q" }
  close IN; close FEED; close OUT; binmode STDOUT; select undef, undef, undef, 0.3;
  while (sysread DRAIN, $_, 65536) { print } wait; wait; exit $? >> 8' >piped.gguf
cmp m.gguf piped.gguf && echo same
