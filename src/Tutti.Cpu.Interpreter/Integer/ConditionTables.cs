namespace Tutti.Cpu.Interpreter;

/// <summary>Chooses handlers by condition code (0 to 15, as in the opcodes: odd ones are negated).</summary>
internal static unsafe class ConditionTables
{
    private interface ISelector
    {
        static abstract delegate*<CpuState*, Op*, Op*> Select<TCondition>(int choice)
            where TCondition : struct, ICondition;
    }

    /// <summary>Choice 0: Jcc in 64-bit mode; 1: in other modes.</summary>
    public static delegate*<CpuState*, Op*, Op*> Jump(int condition, bool is64) => Choose<JumpSelector>(condition, is64 ? 0 : 1);

    public static delegate*<CpuState*, Op*, Op*> Set(int condition, bool memory) => Choose<SetSelector>(condition, memory ? 1 : 0);

    public static delegate*<CpuState*, Op*, Op*> Move(int condition, int widthLog2, bool memory) =>
        Choose<MoveSelector>(condition, (widthLog2 * 2) + (memory ? 1 : 0));

    /// <summary>The fused form of CMP (or TEST) and Jcc.</summary>
    public static delegate*<CpuState*, Op*, Op*> Fused(int condition, int widthLog2, OperandForm form, bool isTest) =>
        Choose<FusedSelector>(condition, (widthLog2 * 16) + ((int)form * 2) + (isTest ? 1 : 0));

    private static delegate*<CpuState*, Op*, Op*> Choose<TSelector>(int condition, int choice)
        where TSelector : struct, ISelector => condition switch
        {
            0 => TSelector.Select<IfOverflow>(choice),
            1 => TSelector.Select<Unless<IfOverflow>>(choice),
            2 => TSelector.Select<IfBelow>(choice),
            3 => TSelector.Select<Unless<IfBelow>>(choice),
            4 => TSelector.Select<IfZero>(choice),
            5 => TSelector.Select<Unless<IfZero>>(choice),
            6 => TSelector.Select<IfBelowOrEqual>(choice),
            7 => TSelector.Select<Unless<IfBelowOrEqual>>(choice),
            8 => TSelector.Select<IfSign>(choice),
            9 => TSelector.Select<Unless<IfSign>>(choice),
            10 => TSelector.Select<IfParity>(choice),
            11 => TSelector.Select<Unless<IfParity>>(choice),
            12 => TSelector.Select<IfLess>(choice),
            13 => TSelector.Select<Unless<IfLess>>(choice),
            14 => TSelector.Select<IfLessOrEqual>(choice),
            _ => TSelector.Select<Unless<IfLessOrEqual>>(choice),
        };

    private struct JumpSelector : ISelector
    {
        public static delegate*<CpuState*, Op*, Op*> Select<TCondition>(int choice)
            where TCondition : struct, ICondition =>
            choice == 0 ? &Branches.JumpIf<TCondition> : &Branches.JumpIfLegacy<TCondition>;
    }

    private struct SetSelector : ISelector
    {
        public static delegate*<CpuState*, Op*, Op*> Select<TCondition>(int choice)
            where TCondition : struct, ICondition =>
            choice == 0 ? &SetIf<TCondition>.Register : &SetIf<TCondition>.Memory;
    }

    private struct MoveSelector : ISelector
    {
        public static delegate*<CpuState*, Op*, Op*> Select<TCondition>(int choice)
            where TCondition : struct, ICondition => choice switch
            {
                2 => &ConditionalMove<TCondition, W16>.Register,
                3 => &ConditionalMove<TCondition, W16>.Memory,
                4 => &ConditionalMove<TCondition, W32>.Register,
                5 => &ConditionalMove<TCondition, W32>.Memory,
                6 => &ConditionalMove<TCondition, W64>.Register,
                _ => &ConditionalMove<TCondition, W64>.Memory,
            };
    }

    private struct FusedSelector : ISelector
    {
        public static delegate*<CpuState*, Op*, Op*> Select<TCondition>(int choice)
            where TCondition : struct, ICondition => (choice >> 4) switch
            {
                0 => SelectForm<TCondition, W8>(choice & 15),
                1 => SelectForm<TCondition, W16>(choice & 15),
                2 => SelectForm<TCondition, W32>(choice & 15),
                _ => SelectForm<TCondition, W64>(choice & 15),
            };

        private static delegate*<CpuState*, Op*, Op*> SelectForm<TCondition, TWidth>(int choice)
            where TCondition : struct, ICondition
            where TWidth : struct, IWidth
        {
            bool isTest = (choice & 1) != 0;
            return (OperandForm)(choice >> 1) switch
            {
                OperandForm.RegisterRegister => isTest ? &FusedBranch<TCondition, TWidth>.TestRegisterRegister : &FusedBranch<TCondition, TWidth>.CompareRegisterRegister,
                OperandForm.RegisterImmediate => isTest ? &FusedBranch<TCondition, TWidth>.TestRegisterImmediate : &FusedBranch<TCondition, TWidth>.CompareRegisterImmediate,
                OperandForm.MemoryImmediate => isTest ? &FusedBranch<TCondition, TWidth>.TestMemoryImmediate : &FusedBranch<TCondition, TWidth>.CompareMemoryImmediate,
                OperandForm.RegisterMemory => isTest ? null : &FusedBranch<TCondition, TWidth>.CompareRegisterMemory,
                _ => isTest ? null : &FusedBranch<TCondition, TWidth>.CompareMemoryRegister,
            };
        }
    }
}
