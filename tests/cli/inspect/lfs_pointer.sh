printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123\n' > model.gguf
quern inspect model.gguf
