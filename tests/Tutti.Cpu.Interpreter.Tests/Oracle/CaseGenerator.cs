using System.Buffers.Binary;
using System.Numerics;
using Iced.Intel;
using Tutti.X86;

namespace Tutti.Cpu.Interpreter.Tests.Oracle;

/// <summary>
/// Chooses registers, flags and memory for an encoded instruction: random with edges, but with every address that the
/// instruction makes inside the arena or known to fault.
/// </summary>
internal sealed class CaseGenerator(SeededRandom random, int bits)
{
    private const int Rax = 0;
    private const int Rcx = 1;
    private const int Rdx = 2;
    private const int Rbx = 3;
    private const int Rsp = 4;
    private const int Rbp = 5;
    private const int Rsi = 6;
    private const int Rdi = 7;
    private const ulong DataEnd = ArenaLayout.Data + (2 * ArenaLayout.PageSize);

    public void Fill(CaseInput input, EncodedForm form, string group)
    {
        do
        {
            FillOnce(input, form, group);
            input.Gpr[Rsp] = HostFeatures.StackPointer(input.Gpr[Rsp]);
        }
        while (form.Accesses && form.Instruction.IsStackInstruction
            && (input.Gpr[Rsp] - (ArenaLayout.Code - 16) < (2 * ArenaLayout.PageSize) + 32 || input.Gpr[Rsp] - (ArenaLayout.Record - 16) < ArenaLayout.PageSize + 32));
    }

    // A stack in the code pages would show the pads, which are not the same on both sides; the guest has no record page.
    private void FillOnce(CaseInput input, EncodedForm form, string group)
    {
        input.Clear();
        Instruction instruction = form.Instruction;
        for (int i = 0; i < 16; i++)
        {
            input.Gpr[i] = random.Value();
        }

        input.Flags = Rflags.AlwaysOne | Rflags.Interrupt | (random.Next() & (Rflags.Arithmetic | Rflags.Direction | Rflags.Identification));
        SetOperandValues(input, instruction, group);
        SetImplicitAddresses(input, instruction);
        ulong target = 0;
        ClearUpperHalves(input.Gpr);
        if (form.Accesses)
        {
            target = SolveAddress(input, instruction, group);
            PokeOperand(input, instruction, target, group);
        }

        SetBranchTargets(input, form, target);
        ClearUpperHalves(input.Gpr);
        if (group == FormTable.Vector)
        {
            // DPPS and DPPD multiply and then add, and processors do not agree on what an unmasked exception between leaves.
            FillFx(input.Fx, mayUnmask: instruction.Mnemonic is not (Mnemonic.Dpps or Mnemonic.Dppd or Mnemonic.Vdpps or Mnemonic.Vdppd));
            for (int at = 0; at < input.Ymm.Length; at += 8)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(input.Ymm.AsSpan(at), HostCalls.HasAvx ? random.VectorValue() : 0);
            }

            SetGatherIndices(input, instruction, target);
        }
    }

    private static int Number(Register register) => register.GetFullRegister() - Register.RAX;

    private static ulong Merge(ulong old, ulong value, int size) => size switch
    {
        2 => (old & ~0xFFFFUL) | (ushort)value,
        4 => (old & 0xFFFF_FFFF_0000_0000) | (uint)value,
        _ => value,
    };

    private void ClearUpperHalves(Span<ulong> gpr)
    {
        for (int i = 0; i < 8 && bits == 32; i++)
        {
            gpr[i] = (uint)gpr[i];
        }
    }

    private void SetOperandValues(CaseInput input, in Instruction instruction, string group)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Div or Mnemonic.Idiv when random.Percent(70):
                // Random dividends overflow nearly always.
                input.Gpr[Rdx] = random.Below(4) switch { 0 => 0, 1 => (ulong)((long)input.Gpr[Rax] >> 63), 2 => (ulong)random.Below(100), _ => ulong.MaxValue };
                if (random.Percent(50))
                {
                    input.Gpr[Rax] &= 0x3FF;
                }

                break;
            case Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc when instruction.Op0Kind == OpKind.Memory && instruction.Op1Kind == OpKind.Register:
                long offset = random.Between(-1700, 1700);
                int register = Number(instruction.Op1Register);
                input.Gpr[register] = instruction.Op1Register.GetSize() switch
                {
                    2 => (input.Gpr[register] & ~0xFFFFUL) | (ushort)offset,
                    4 => (input.Gpr[register] & ~0xFFFF_FFFFUL) | (uint)offset,
                    _ => (ulong)offset,
                };
                break;
            case Mnemonic.Cmpxchg when instruction.Op0Kind == OpKind.Register && instruction.Op0Register.GetSize() > 1 && random.Percent(50):
                input.Gpr[Rax] = input.Gpr[Number(instruction.Op0Register)];
                break;
            case Mnemonic.Loop or Mnemonic.Loope or Mnemonic.Loopne or Mnemonic.Jrcxz or Mnemonic.Jecxz or Mnemonic.Jcxz when random.Percent(60):
                input.Gpr[Rcx] = (uint)random.Below(3) | (random.Percent(50) ? 0 : bits == 64 ? 0xABCD_0000_0000_0000UL : 0xABCD_0000UL);
                break;
        }

        if (group == "Shift" && random.Percent(60))
        {
            input.Gpr[Rcx] = (input.Gpr[Rcx] & ~0xFFUL) | (byte)random.Below(72);
        }
    }

    private void SetImplicitAddresses(CaseInput input, in Instruction instruction)
    {
        if (instruction.IsStackInstruction)
        {
            input.Gpr[Rsp] = StackPointer();
        }

        switch (instruction.Mnemonic)
        {
            case Mnemonic.Enter or Mnemonic.Leave:
                input.Gpr[Rbp] = StackPointer();
                break;
            case Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq:
                input.Poke(input.Gpr[Rsp], random.Next() & (Rflags.Arithmetic | Rflags.Direction | Rflags.Identification | Rflags.Interrupt | Rflags.Iopl), 8);
                break;
        }

        for (int i = 0; i < instruction.OpCount; i++)
        {
            switch (instruction.GetOpKind(i))
            {
                case OpKind.MemorySegRSI:
                    input.Gpr[Rsi] = Target(16, 8);
                    break;
                case OpKind.MemorySegESI:
                    input.Gpr[Rsi] = Merge(random.Next(), Target(16, 4), 4);
                    break;
                case OpKind.MemorySegSI:
                    input.Gpr[Rsi] = Merge(random.Next(), Target(16, 2), 2);
                    break;
                case OpKind.MemoryESRDI or OpKind.MemorySegRDI:
                    input.Gpr[Rdi] = Target(16, 8);
                    break;
                case OpKind.MemoryESEDI or OpKind.MemorySegEDI:
                    input.Gpr[Rdi] = Merge(random.Next(), Target(16, 4), 4);
                    break;
                case OpKind.MemoryESDI or OpKind.MemorySegDI:
                    input.Gpr[Rdi] = Merge(random.Next(), Target(16, 2), 2);
                    break;
                default:
                    continue;
            }

            if (instruction.GetOpKind(0) == OpKind.MemoryESDI && instruction.OpCount > 1 && instruction.Op1Kind == OpKind.MemorySegSI)
            {
                // AMD's repeated moves do not see that operands overlap when the unused upper halves are not 0.
                input.Gpr[Rsi] &= 0xFFFF;
                input.Gpr[Rdi] &= 0xFFFF;
            }

            if (instruction.HasRepPrefix || instruction.HasRepnePrefix)
            {
                int addressSize = instruction.GetOpKind(i) switch
                {
                    OpKind.MemorySegESI or OpKind.MemoryESEDI => 4,
                    OpKind.MemorySegSI or OpKind.MemoryESDI => 2,
                    _ => 8,
                };
                ulong count = (ulong)random.Below(random.Percent(90) ? 24 : 3000);
                input.Gpr[Rcx] = Merge(random.Next(), count, addressSize);
            }
        }
    }

    private ulong StackPointer() => random.Below(20) switch
    {
        0 => ArenaLayout.Stack + (ulong)random.Below(32),
        1 => ArenaLayout.Stack + (2 * ArenaLayout.PageSize) - (ulong)random.Below(32),
        2 => 0x8000_0000_0000_0000 + ((ulong)random.Below(100) << 40),
        3 => ArenaLayout.Stack - 64 + (ulong)random.Below(32),
        _ => ArenaLayout.Stack + (ulong)random.Between(0x600, 0x1A00),
    };

    /// <summary>An address for an operand: mostly in the data pages, at times where it faults.</summary>
    private ulong Target(int size, int addressSize)
    {
        int choice = random.Below(100);
        if (addressSize == 2)
        {
            return choice switch
            {
                < 70 => ArenaLayout.LowData + (ulong)random.Between(0x200, 0x1E00),
                < 85 => ArenaLayout.LowData + ArenaLayout.PageSize - (ulong)random.Below(size + 1),
                < 95 => ArenaLayout.LowData + (2 * ArenaLayout.PageSize) - (ulong)random.Below(2 * size),
                _ => ArenaLayout.LowData - (ulong)random.Between(0, 200),
            };
        }

        ulong inside = ArenaLayout.Data + (ulong)random.Between(0x200, 0x1E00);
        return choice switch
        {
            < 45 => inside,
            < 68 => inside & ~15UL,
            < 80 => ArenaLayout.Data + ArenaLayout.PageSize - (ulong)random.Below(size + 1),
            < 86 => DataEnd - (ulong)size,
            < 91 => DataEnd - (ulong)random.Below(size),
            < 94 => ArenaLayout.Data - (ulong)random.Between(0, 200),
            < 97 => ArenaLayout.ReadOnly + (ulong)random.Below(4096 - size),
            _ => addressSize == 8 ? 0x0000_8000_0000_0000 + (random.Next() >> 18) : inside,
        };
    }

    /// <summary>Sets base and index so that the operand lies at a chosen address, which is returned.</summary>
    private ulong SolveAddress(CaseInput input, in Instruction instruction, string group)
    {
        if (instruction.IsIPRelativeMemoryOperand)
        {
            return instruction.IPRelativeMemoryAddress;
        }

        if (instruction.IsVsib)
        {
            return SolveVectorBase(input, instruction);
        }

        ulong displacement = instruction.MemoryDisplacement64;
        Register baseRegister = instruction.MemoryBase;
        Register index = instruction.MemoryIndex;
        int size = Math.Max(1, instruction.MemorySize.GetSize());
        if (baseRegister == Register.None)
        {
            if (index == Register.None)
            {
                return displacement;
            }

            // The top bits of the index are shifted out of the address.
            ulong small = (ulong)random.Below(16);
            int lost = BitOperations.Log2((uint)instruction.MemoryIndexScale);
            ulong junk = index.GetSize() == 4 ? random.Next() << 32 : lost == 0 ? 0 : random.Next() << (64 - lost);
            input.Gpr[Number(index)] = small | junk;
            return displacement + (small * (ulong)instruction.MemoryIndexScale);
        }

        int addressSize = baseRegister.GetSize();
        ulong operands = ArenaLayout.Operands(addressSize);
        bool isBitOffset = instruction.Mnemonic is Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc;
        bool isBranch = group == "Branch";
        ulong target = isBitOffset || isBranch ? operands + (ulong)random.Between(0x300, 0x1C00)
            : IsAligned(instruction) ? operands + ((ulong)random.Between(0x30, 0x1C0) << 4)
            : Target(size, addressSize);
        if (instruction.Mnemonic == Mnemonic.Xlatb)
        {
            input.Gpr[Rbx] = Merge(random.Next(), target - (byte)input.Gpr[Rax], addressSize);
            return target;
        }

        return SolveBase(input, instruction, target, displacement, addressSize);
    }

    /// <summary>Where an element with index 0 lies.</summary>
    private ulong SolveVectorBase(CaseInput input, in Instruction instruction)
    {
        if (instruction.MemoryBase == Register.None)
        {
            return instruction.MemoryDisplacement64;
        }

        ulong target = ArenaLayout.Data + (ulong)random.Between(0x200, 0x1E00);
        input.Gpr[Number(instruction.MemoryBase)] =
            Merge(random.Next(), target - instruction.MemoryDisplacement64, instruction.MemoryBase.GetSize());
        return target;
    }

    /// <summary>Indices of a gather: mostly into the data pages, at times beside them; those that are masked out may be anything.</summary>
    private void SetGatherIndices(CaseInput input, in Instruction instruction, ulong zero)
    {
        if (!instruction.IsVsib)
        {
            return;
        }

        bool isShort = instruction.Mnemonic is Mnemonic.Vgatherdps or Mnemonic.Vgatherdpd or Mnemonic.Vpgatherdd or Mnemonic.Vpgatherdq;
        int size = isShort ? 4 : 8;
        int number = instruction.MemoryIndex.IsYMM() ? instruction.MemoryIndex - Register.YMM0 : instruction.MemoryIndex - Register.XMM0;
        bool faults = random.Percent(30);
        for (int at = 0; at < 32; at += size)
        {
            ulong target = ArenaLayout.Data + (ulong)(faults ? random.Between(-0x1000, 0x2100) : random.Between(0x40, 0x1FC0));
            long index = (long)(target - zero) / instruction.MemoryIndexScale;
            bool isWhole = instruction.MemoryBase.GetSize() == 8 || instruction is { MemoryBase: Register.None, MemoryDisplSize: 8 };
            index = faults && size == 8 && isWhole && random.Percent(10) ? (long)(random.Next() | (1UL << 60)) : index;
            Span<byte> half = at < 16 ? input.Fx.AsSpan(160 + (16 * number) + at) : input.Ymm.AsSpan((16 * number) + at - 16);
            if (isShort)
            {
                BinaryPrimitives.WriteInt32LittleEndian(half, (int)index);
            }
            else
            {
                BinaryPrimitives.WriteInt64LittleEndian(half, index);
            }
        }
    }

    /// <summary>Whether only aligned operands are compared: Intel's SHA instructions want them, AMD's do not.</summary>
    private static bool IsAligned(in Instruction instruction) => instruction.CpuidFeatures[0] == CpuidFeature.SHA;

    private ulong SolveBase(CaseInput input, in Instruction instruction, ulong target, ulong displacement, int addressSize)
    {
        int baseNumber = Number(instruction.MemoryBase);
        ulong scale = (ulong)instruction.MemoryIndexScale;
        ulong wanted = target - displacement;
        if (instruction.MemoryIndex != Register.None)
        {
            int index = Number(instruction.MemoryIndex);
            if (index == baseNumber)
            {
                ulong wholeMask = addressSize == 8 ? ulong.MaxValue : uint.MaxValue;
                ulong sum = wanted & wholeMask;
                ulong value = sum / (1 + scale);
                input.Gpr[baseNumber] = Merge(random.Next(), value, addressSize);
                return target - (sum - (value * (1 + scale)));
            }

            wanted -= input.Gpr[index] * scale;
        }

        input.Gpr[baseNumber] = Merge(random.Next(), wanted, addressSize);
        return target;
    }

    private void PokeOperand(CaseInput input, in Instruction instruction, ulong target, string group)
    {
        int size = Math.Clamp(instruction.MemorySize.GetSize(), 1, 32);
        if (instruction.Mnemonic == Mnemonic.Cmpxchg && random.Percent(50))
        {
            input.Poke(target, input.Gpr[Rax], size);
        }
        else if (instruction.Mnemonic is Mnemonic.Cmpxchg8b or Mnemonic.Cmpxchg16b && random.Percent(50))
        {
            int half = size / 2;
            input.Poke(target, input.Gpr[Rax], half);
            input.Poke(target + (ulong)half, input.Gpr[Rdx], half);
        }
        else if (instruction.Mnemonic == Mnemonic.Bound && random.Percent(80))
        {
            // Random bounds are seldom kept.
            int half = size / 2;
            ulong index = input.Gpr[Number(instruction.Op0Register)];
            input.Poke(target, index - (ulong)random.Between(-1, 3), half);
            input.Poke(target + (ulong)half, index + (ulong)random.Between(-1, 3), half);
        }
        else if (instruction.Mnemonic is Mnemonic.Ldmxcsr or Mnemonic.Vldmxcsr)
        {
            // Bit 17, misaligned exceptions, is reserved but for AMD.
            input.Poke(target, random.Percent(80) ? (ushort)random.Next() : random.Next() & ~0x2_0000UL, 4);
        }
        else if (random.Percent(80))
        {
            for (int i = 0; i < size; i += 8)
            {
                input.Poke(target + (ulong)i, group == FormTable.Vector ? random.VectorValue() : random.Value(), Math.Min(8, size - i));
            }
        }
    }

    /// <summary>Indirect branches go to one of the pads.</summary>
    private void SetBranchTargets(CaseInput input, EncodedForm form, ulong target)
    {
        Instruction instruction = form.Instruction;
        ulong pad = (ulong)((long)form.Address + random.Pick(FormEncoder.PadOffsets));
        if (instruction.Mnemonic == Mnemonic.Ret)
        {
            input.Poke(input.Gpr[Rsp], pad, 8);
        }
        else if (instruction.IsJmpNearIndirect || instruction.IsCallNearIndirect)
        {
            if (form.Accesses)
            {
                input.Poke(target, pad, 8);
            }
            else
            {
                input.Gpr[Number(instruction.Op0Register)] = pad;
            }
        }
    }

    private void FillFx(Span<byte> fx, bool mayUnmask)
    {
        fx.Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(fx, 0x37F);
        BinaryPrimitives.WriteUInt16LittleEndian(fx[2..], random.Percent(70) ? (ushort)0 : (ushort)(random.Below(8) << 11));
        fx[4] = random.Percent(50) ? (byte)0 : (byte)random.Next();
        for (int i = 0; i < 8; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(fx[(32 + (16 * i))..], random.VectorValue());
            BinaryPrimitives.WriteUInt16LittleEndian(fx[(40 + (16 * i))..], random.Percent(50) ? ushort.MaxValue : (ushort)random.Next());
        }

        for (int i = 0; i < 32; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(fx[(160 + (8 * i))..], random.VectorValue());
        }

        uint mxcsr = random.Below(10) switch
        {
            < 5 => 0x1F80,
            < 8 => 0x1F80 | ((uint)random.Next() & 0xE07F),
            _ => (uint)random.Next() & 0xFFC0,
        };
        BinaryPrimitives.WriteUInt32LittleEndian(fx[24..], mayUnmask ? mxcsr : mxcsr | 0x1F80);
        BinaryPrimitives.WriteUInt32LittleEndian(fx[28..], 0xFFFF);
    }
}
