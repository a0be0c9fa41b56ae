cat > mix.txt <<'END'
# More for the values, everything for the first layer.
attn_v      = q6_k
blk.0.ffn_* = q8_0   # three of them
blk.77.*    = f16
output      = q5_k
END
quern quantize data/fixture/meta-2 -t q4_k_s --recipe mix.txt --role attn_v=q5_0 --tensor 'blk.1.attn_v*=f16' -n --explain
