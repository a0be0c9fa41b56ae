cp -r data/fixture/meta-2 m
cat > m/consolidated.01.pth <<'EOF'
version https://git-lfs.github.com/spec/v1
oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393
size 3686584
EOF
quern check m
