# Three spellings, one text.
quern convert --help > a
quern help convert > b
quern convert -h > c
cmp a b
cmp a c
head -n 8 a
