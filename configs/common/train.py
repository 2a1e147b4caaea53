"""Settings of a run, read by ``ifa_d2.engine.settings.TrainSettings``."""

train = dict(
    # Where checkpoints, metrics and logs go. Empty: ./output/<path of the recipe below configs/,
    # without suffix>.
    output_dir="",
    # Weights to start from or to evaluate, a path or an address. Empty: none.
    init_checkpoint="",
    # Those weights may lack more than half of the backbone.
    partial_checkpoint=False,
    # Iterations in all.
    max_iter=1000,
    # Images in an iteration, over all processes.
    batch_size=8,
    # The batch that rate and iterations are for, where they are to follow batch_size by the linear
    # rule (ifa_d2.engine.solver.scale_config); 0: they stay.
    reference_batch_size=0,
    # Of all random numbers. Below 0: another one every time.
    seed=-1,
    # torch chooses deterministic kernels.
    deterministic=False,
    # "cpu", "cuda", or "auto", the GPU where there is one.
    device="auto",
    # Mixed precision, of "float16" (GPU) or "bfloat16" (GPU and CPU).
    amp=dict(enabled=False, dtype="float16"),
    # Parts in which a process's images pass the model, one after the other: for less memory.
    accumulation_steps=1,
    # Compute the backbone's blocks again for their gradients: for less memory too.
    activation_checkpointing=False,
    # Decay of an average of the weights, such as 0.999, which is evaluated and saved; 0: none.
    ema=dict(decay=0.0),
    # Evaluations without a better figure, after which training ends; 0: never.
    early_stopping=dict(patience=0),
    # Of several processes: models that leave some parameters without a gradient need the first;
    # the second exchanges gradients in float16.
    ddp=dict(find_unused_parameters=False, fp16_compression=False),
    # By "norm" or "value" of each parameter, to clip_value; norm_type is the p of the norm.
    clip_gradients=dict(enabled=False, clip_type="norm", clip_value=1.0, norm_type=2.0),
    # Iterations between two checkpoints, 0: a tenth of max_iter, 1000 at most; and how many of them
    # to keep besides model_final and model_best, 0: all.
    checkpointer=dict(period=0, max_to_keep=2),
    # Iterations between two evaluations; 0: only at the end.
    eval_period=1000,
    # Batches that BatchNorm's statistics are taken of before an evaluation; 0: running averages.
    precise_bn_iters=0,
    # Iterations between two lines of the log.
    log_period=20,
    # cuDNN times kernels to choose. Off with deterministic.
    cudnn_benchmark=False,
)
