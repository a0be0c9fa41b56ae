$QUERN imatrix model.gguf -o out.gguf
