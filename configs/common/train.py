"""Settings of a run. What each means: ``ifa_d2.engine.settings.TrainSettings``."""

train = dict(
    # Empty: ./output/<path of the recipe below configs/, without suffix>.
    output_dir="",
    init_checkpoint="",
    # Those weights may lack more than half of the backbone.
    partial_checkpoint=False,
    max_iter=1000,
    # Images in an iteration, over all processes.
    batch_size=8,
    # The batch that rate and iterations are for, where they are to follow batch_size by the linear
    # rule (ifa_d2.engine.solver.scale_config); 0: they stay.
    reference_batch_size=0,
    # Below 0: another one every time.
    seed=-1,
    deterministic=False,
    # "auto" is the GPU where there is one.
    device="auto",
    # "float16" (GPU) or "bfloat16" (GPU and CPU).
    amp=dict(enabled=False, dtype="float16"),
    # Parts in which a process's images pass the model, one after the other: for less memory.
    accumulation_steps=1,
    # Compute the backbone's blocks again for their gradients: for less memory too.
    activation_checkpointing=False,
    # Decay of an average of the weights, such as 0.999, which is evaluated and saved; 0: none.
    ema=dict(decay=0.0),
    # Evaluations without a better figure, after which training ends; 0: never.
    early_stopping=dict(patience=0),
    ddp=dict(find_unused_parameters=False, fp16_compression=False),
    clip_gradients=dict(enabled=False, clip_type="norm", clip_value=1.0, norm_type=2.0),
    # Period 0: a tenth of max_iter, 1000 at most. max_to_keep counts those besides model_final and
    # model_best; 0 keeps all.
    checkpointer=dict(period=0, max_to_keep=2),
    # 0: only at the end.
    eval_period=1000,
    precise_bn_iters=0,
    log_period=20,
    cudnn_benchmark=False,
)
