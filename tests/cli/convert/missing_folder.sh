quern convert no/such/folder -o out.gguf
