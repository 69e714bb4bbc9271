#!/bin/bash
# Train on several nodes under Slurm, over as many jobs as it takes:
#
#   sbatch docs/slurm.sh configs/cs/epgn_25.yaml runs/epgn_25
#
# Three minutes before the time is up the run writes a checkpoint and the job goes back into the queue; the same command
# then goes on from there. It does so too after a node failed or the job was pre-empted (--requeue).
#SBATCH --job-name=unrolled
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@180
#SBATCH --requeue
#SBATCH --open-mode=append

config=${1:?usage: sbatch slurm.sh CONFIG FOLDER}
folder=${2:?usage: sbatch slurm.sh CONFIG FOLDER}
first_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

save_and_requeue() {
    scancel --signal=TERM "$SLURM_JOB_ID.0"
    wait "$training"
    scontrol requeue "$SLURM_JOB_ID"
    exit
}
trap save_and_requeue USR1

# One launcher a node, which starts one process a GPU.
srun torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" \
    --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first_node:29500" \
    --rdzv-id "$SLURM_JOB_ID" \
    train.py --config "$config" --folder "$folder" --resume &
training=$!
wait "$training"
