# --pure gives every matrix the type; --keep-output leaves the output matrix as it is.
for flags in "" --pure --keep-output "--pure --keep-output"; do
  echo "== $flags"
  quern quantize -q data/fixture/meta-2 -t Q4_K_S $flags -n --explain --json |
    awk -F'"' '$2 == "name" { name = $4 } $2 == "to" { to = $4 }
      $2 == "reason" && name ~ /^(token_embd|output\.|blk.0.attn_v|blk.0.ffn_down|output_norm)/ { print name, to, "(" $4 ")" }'
done
