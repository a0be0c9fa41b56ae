# A stale sum of params.json and a line that is none are remarks, as releases have them; a wrong sum of anything else is not.
cp -r data/fixture/meta-2 m
echo >> m/params.json
echo 'd41d8cd98f00b204e9800998ecf8427e' >> m/checklist.chk
quern check --no-weights m
sed -i 's/^38ec/38ed/' m/checklist.chk
quern check --no-weights m
