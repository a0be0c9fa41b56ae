# What --role and --tensor take, and what they say of anything else.
say() { quern quantize -q data/fixture/meta-2 -n -t q4_0 "$@" || echo "exit code $?"; }
say --role attn_q=q4_k_m 2>&1
say --tensor 'blk.0.*=iq1_s' 2>&1
say --tensor '=q8_0' 2>&1
say --role attn_v==q6_k 2>&1
say --role nose=q6_k 2>&1
say --effort slow 2>&1
say --effort BEST --isa Scalar
quern quantize data/fixture/meta-2 -n -t q4_0 --tensor $'no\x07such=q8_0' 2>&1
echo 'attn_v == q6_k' > recipe
say --recipe recipe 2>&1
