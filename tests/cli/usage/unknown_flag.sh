quern quantize data/fixture/meta-2 --tpye q4_0
