$QUERN imatrix model.gguf --text text.txt
