# Every preset but "source" says what it costs.
quern types --json > types.json
grep -c '"name"' types.json
grep -c '"fixture_mean_kld_nats"' types.json
grep -A8 '"name": "q4_k_m"' types.json
grep -c '"block_type"' types.json
