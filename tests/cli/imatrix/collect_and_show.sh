# Collected, inspected, in both layouts; the statistics of q and v agree, they have the same input.
$QUERN convert -q $DATA/fixture/meta-2 -o m.gguf
$QUERN imatrix m.gguf --text $DATA/fixture/kjv.txt --chunks 4 -o m.imatrix.gguf
$QUERN imatrix m.gguf --text $DATA/fixture/kjv.txt --chunks 4 -o imatrix.dat --json
$QUERN inspect m.imatrix.gguf | head -n 1
$QUERN inspect imatrix.dat | head -n 1
$QUERN imatrix --show m.imatrix.gguf | head -n 1
$QUERN imatrix --show m.imatrix.gguf >gguf
$QUERN imatrix --show imatrix.dat >legacy
diff gguf legacy
[ "$(grep attn_q gguf | sed s/attn_q//)" = "$(grep attn_v gguf | sed s/attn_v//)" ]
