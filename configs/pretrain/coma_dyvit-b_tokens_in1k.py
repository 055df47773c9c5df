"""Second reading of the paper: the tokens of both branches are assembled, then decoded once to the whole image.

    tools/dist_train.sh configs/pretrain/coma_dyvit-b_tokens_in1k.py 8

In the first one (coma_dyvit-b_in1k.py) outputs are assembled, each unit's by the branch that did not see it.
Hardware: 8 GPUs x 512 images. Hours, result: not run, needs ImageNet
"""

_base_ = 'coma_dyvit-b_in1k.py'
model = dict(evaluation=dict(mode='copy', assemble='tokens'))
